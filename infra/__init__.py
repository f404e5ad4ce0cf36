"""Everything around the workers: settings, clients, the stack, the embedded defaults, the command line."""
