"""The command line. Thin: parse, build one config, call `pipeline`, set the exit code."""
