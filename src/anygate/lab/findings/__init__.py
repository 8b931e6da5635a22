"""The findings of a study: numbers that compare activations, and the sentences on them.

comparison  differences from the first activation, paired by seed
solving     which runs solved the task, and when
cost        the time of a training step
verdict     the answer, with all sentences in reading order; learning rates too
advice      what to change together with an activation
arrival     how much of the gradient arrives at the first time step
sheets      property sheets of formulas that may be a stranger's
"""
