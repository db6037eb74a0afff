"""Watch a run on the screen, live or later, without the model: `llmscope watch FOLDER`."""
