"""Measures lvsd beside keepalived and ipvsadm, in one boot of the lab's kernel. It asserts no figure.

`python -m lvsd.lab run --timeout 900 -- python -m bench [start] [detection] [probes]`
"""
