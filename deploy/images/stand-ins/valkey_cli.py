#!/opt/servers/bin/python
"""`valkey-cli ping`, with the password in REDISCLI_AUTH."""

import os
import sys

import redis

client = redis.Redis(password=os.environ.get("REDISCLI_AUTH"), socket_timeout=3)
answer = client.execute_command(*sys.argv[1:])
print("PONG" if answer is True else answer)
