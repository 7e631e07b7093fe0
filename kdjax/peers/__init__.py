"""Clients that train apart: each is a process of its own, and they meet in a shared folder.

`messages` holds the format and its checks, `mailbox` the folder, and `mail` a method's interface.
"""

from kdjax.peers.mail import Mail
from kdjax.peers.messages import Kind

__all__ = ["Kind", "Mail"]
