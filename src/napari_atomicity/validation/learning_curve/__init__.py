"""Learning curve: the scores of models that are trained on few or many images of each class."""
