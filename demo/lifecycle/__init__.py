"""A family of small language models, trained from nothing through every stage of the field.

    python -m demo.lifecycle [--out FOLDER] [--fast]

See README.md beside this file for what each stage is and how it is measured.
"""
