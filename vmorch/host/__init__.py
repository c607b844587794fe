"""How large this host is."""
