"""Work on vocabulary files: what is odd in one, what two differ in, and files of other tools."""
