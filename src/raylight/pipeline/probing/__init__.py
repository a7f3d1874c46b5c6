"""What heads on cached features tell before anything is trained: which network to take, and how many images to add."""
