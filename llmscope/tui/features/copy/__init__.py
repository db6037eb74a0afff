"""What can be copied: words, numbers, commands, scripts."""
