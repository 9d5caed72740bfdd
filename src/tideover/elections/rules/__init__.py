"""Decisions on elections, pure: `candidate` is one candidate's state machine, `failsafe` the confirmation by
peers, `stall` the verdict on a blocked event loop, `backoff` the pause after a job has failed.
"""
