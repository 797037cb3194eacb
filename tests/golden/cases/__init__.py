"""One module per room: golden case name -> function that runs ours on its inputs."""
