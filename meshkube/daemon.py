"""The only wiring: builds the parts that a host runs and supervises them."""
