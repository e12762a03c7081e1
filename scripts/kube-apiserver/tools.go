//go:build tools

// Package tools names what scripts/need-kube-apiserver builds: the peer that bench/api.py measures beside ours.
package tools

import _ "k8s.io/kubernetes/cmd/kube-apiserver"
