"""Parts of the page of a run, one file each: what its template is given."""
