"""From a spec string to a `Subject`: where weights come from, where a decoder's parts are."""
