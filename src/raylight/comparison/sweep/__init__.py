"""The table and the page of a sweep: its rows, the choice among them, and the files it leaves."""
