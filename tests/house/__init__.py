"""What the package weighs: its size, its import graph and its names, against limits that fall."""
