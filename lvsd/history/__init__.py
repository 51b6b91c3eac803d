"""The log folded into what happened when: `lvsd history`."""
