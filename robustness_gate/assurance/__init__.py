"""Checks of the instrument: can the gate run here, do its attacks work, and can a report be reproduced?"""
