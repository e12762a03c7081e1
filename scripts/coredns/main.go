// CoreDNS with the plugins of a cluster's own DNS, a peer for bench/dns.py, and those that Kubernetes' own
// end-to-end tests ask for.
package main

import (
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"

	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/forward"
	_ "github.com/coredns/coredns/plugin/hosts"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/loadbalance"
	_ "github.com/coredns/coredns/plugin/log"
)

func init() {
	dnsserver.Directives = []string{
		"bind", "errors", "log", "cache", "loadbalance", "hosts", "kubernetes", "forward",
	}
}

func main() {
	coremain.Run()
}
