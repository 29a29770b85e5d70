"""The engine's side of the kit: from a job's request to an artifact that the platform keeps.

Only workers, and servers that run models, import it.
"""
