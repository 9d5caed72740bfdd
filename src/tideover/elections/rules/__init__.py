"""Decisions on elections, pure: `candidate` is one candidate's state machine, `failsafe` the confirmation by
peers, `following` how long a follower trusts a record, `stall` the verdict on a blocked event loop, `backoff` the
pause after a job has failed.
"""
