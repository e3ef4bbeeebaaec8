"""The long experiment behind notebook 08: does chaos help?"""
