"""One module per job queue; each is a program that carries out one order (`worker.obey`)."""
