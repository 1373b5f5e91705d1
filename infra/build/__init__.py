"""What is deployed as code: the functions' bundle, the layers, and the list of their licences."""
