"""Clients that come apart: each is a process of its own, and they meet in a shared folder.

`messages` is the format and its checks, `mailbox` the folder, `mail` what a method asks of them.
"""

from kdjax.peers.mail import Mail
from kdjax.peers.messages import Kind

__all__ = ["Kind", "Mail"]
