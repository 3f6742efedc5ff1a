"""Names below an output's URI. docs/output.md describes what lies there."""

JOB_FILE = "job.json"
VOCABULARIES_FOLDER = "vocabularies"
MANIFEST_FOLDER = "manifest"
LABELS_FOLDER = "labels"
RUNS_FOLDER = "runs"
RUN_SUMMARY_FILE = "summary.json"
LOCK_FILE = ".lock"  # a file that is locked, or on S3 a lease
OVERRIDES_FOLDER = "overrides"
