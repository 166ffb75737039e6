"""How often `gan_export.forensics` finds what it cannot see, on random generators."""
