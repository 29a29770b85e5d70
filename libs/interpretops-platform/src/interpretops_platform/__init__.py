"""What every InterpretOps service needs: settings, database, jobs."""
