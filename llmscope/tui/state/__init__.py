"""The frozen state of the view, independent of widgets."""
