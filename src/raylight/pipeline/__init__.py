"""From a checked config to a finished run: the room that knows all the others.

``costs``     seconds of each stage
``job``       a Hydra job or a resumed run in its folder, whatever happens
``extension`` more epochs for a run
``run``       the stages, in order
``images``    files, index, split, decode, cache: the images of a run, test kept apart until training has ended
``learner``   the network, how the processor runs it, its batches and cached features
``judge``     the chosen checkpoint judged on test, and all that is written about it

Heavy rooms are imported when their stage begins, so that a bad config fails in a moment.
"""
