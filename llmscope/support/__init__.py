"""What every part of llmscope stands on: text, numbers, files, processes."""
