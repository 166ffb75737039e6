"""Pictures: found in a folder, read from files of many kinds or of idx, made square pixels of one size. Torch-free."""
