"""CertificateSigningRequests: who may get which certificate. Pure."""
