"""Every measured claim: ``python -m benchmarks.FOLDER.MODULE``."""
