"""The bundled sample of MNIST, and the script that made it."""
