"""Recipes trained on equal budgets: what they draw, and how fast they train."""
