"""One file, one suite: `TITLE`, what is said below its tables, and `contests(options)`."""
