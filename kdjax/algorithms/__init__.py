"""The methods: a file each, or a folder where one needs more."""
