"""A static site over results folders: a leaderboard for each text and task, which can be searched.

``gather`` reads the folders, ``boards`` makes a table for each text and task, ``recipe`` the suite that a record came
from, ``page`` the HTML, and ``write`` puts all of it into a folder.
"""
