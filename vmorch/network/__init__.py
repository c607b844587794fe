"""Router namespaces, addresses, names. The only place that knows nftables, dnsmasq and ip."""
