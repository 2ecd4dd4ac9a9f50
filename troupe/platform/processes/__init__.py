"""Children that are processes: their backend, and the other end of it inside the child."""

from troupe.platform.processes._backend import ProcessBackend, ProcessSettings
from troupe.platform.processes._channel import Channel
from troupe.platform.processes._confinement import confine, die_with_supervisor, resident_memory
from troupe.platform.processes._exits import describe_exit
from troupe.platform.processes._instance import Instance, open_instance
from troupe.platform.processes._messages import Message

__all__ = [
    "Channel",
    "Instance",
    "Message",
    "ProcessBackend",
    "ProcessSettings",
    "confine",
    "describe_exit",
    "die_with_supervisor",
    "open_instance",
    "resident_memory",
]
