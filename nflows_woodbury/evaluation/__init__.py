"""What a trained flow is worth: its likelihood, its samples, and how far its layers can be trusted."""
