"""A study: which trials it plans, what runs them, and what they leave on disk.

plan        Study: every activation with every seed on one task
tuning      TunedStudy: learning rates chosen first, on seeds of their own
grid        several studies as one, each in a folder of its own
trial       one run: one activation, one seed, trained and measured
measure     what a trial measures inside its LSTM
executors   what runs trials, and running those that a folder lacks
devices     whether a device is here, and which card a process takes
orphans     workers that end with the process that started them
clusters    the executors of Ray and Dask
stability   short trials over learning rates and forget biases
outlook     the trials that are left, and about how long they take
progress    progress on stderr
store/      the files of a study: their schema, the folder, reading all of it back
"""
