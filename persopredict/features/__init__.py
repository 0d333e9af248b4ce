"""What a feature is (`spec`), which ones we build by default (`builders`), and how a set of them becomes SQL steps (`plan`)."""
