"""Actions and keys: types, registry, keymap, key scripts."""
