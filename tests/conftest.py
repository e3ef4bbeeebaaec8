from hypothesis import settings

settings.register_profile("csbp", deadline=None, derandomize=True)  # workers share cores; a failure must repeat
settings.load_profile("csbp")
