"""A rehearsal network on a real IPVS kernel: hosts, links, services and clients, on any machine.

`kernel` finds or boots the kernel, `network` and `classic` describe what is built on it, `Lab` builds it.
"""
