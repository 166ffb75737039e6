"""gan-bench's records: rows and how far their pixels are off, as JSON, as text, as a picture, beside an older one."""
