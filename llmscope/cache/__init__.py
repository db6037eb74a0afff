"""What llmscope keeps on the disk: what lies there, how large it is, and what can go."""
