"""The Virtual Router Redundancy Protocol (RFC 9568, RFC 3768): who holds the VIPs. Nothing here waits."""
