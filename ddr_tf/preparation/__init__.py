"""Videos and folders of pictures to folders of frames."""
